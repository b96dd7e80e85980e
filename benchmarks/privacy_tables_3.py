"""Tables of `benchmarks/privacy_held_back_3.py`: national phone formats, BBAN structures and shapes of tokens, and how
its templates are read.

`<d4>` is four digits, `n` one from 2 to 9, `z` one from 1 to 9, `a` a small letter, `A` a capital, `x` hex, `X` capital
hex, `w` a letter or a digit, `l` a small letter or a digit, `U` a capital or a digit, `b` base64url, `t` base32; `«…»`
is the part that must not be left.
"""

import random
import re
import string

_CLASSES = {
    "d": string.digits,
    "n": "23456789",
    "z": "123456789",
    "a": string.ascii_lowercase,
    "A": string.ascii_uppercase,
    "x": "0123456789abcdef",
    "X": "0123456789ABCDEF",
    "w": string.ascii_letters + string.digits,
    "l": string.ascii_lowercase + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "b": string.ascii_letters + string.digits + "-_",
    "t": string.ascii_uppercase + "234567",
}


def made(template: str, rng: random.Random) -> str:
    def draw(match: re.Match[str]) -> str:
        return "".join(rng.choice(_CLASSES[match[1]]) for _ in range(int(match[2] or 1)))

    return re.sub(r"<([dnzaAxXwlUbt])(\d*)>", draw, template)


# Phone: a line a country. Before "?" the form tells by itself (a plus, a trunk 0 with gaps, brackets, the US grouping);
# after it only words do.
PHONES = """
US: +1 (<n>0<n>) <n><n><d>-<d4>|1 (<n>1<n>) 555-01<d2>|<n>0<n> 555 01<d2>|(<n>1<n>)<n><n><d>-<d4>|\
+1-<n>0<n>-555-01<d2>|+1.<n>1<n>.<n><n><d>.<d4>|<n>0<n>/555-01<d2>|<n>1<n> – 555 – 01<d2>|\
tel:«+1-<n>0<n>-555-01<d2>»|«<n>0<n>-555-01<d2>» x<d3>|«(<n>1<n>) 555-01<d2>» ext. <d3>|001 <n>0<n> 555 01<d2>|\
<n>0<n>.555-01<d2>?555-01<d2>|<n>1<n>55501<d2>
UK: +44 (0)20 7946 0<d3>|07700 900<d3>|07700 900 <d3>|+44 7700 900<d3>|0044 7700 900<d3>|07700-900-<d3>|\
(0114) 496 0<d3>|01632 960<d3>|+447700900<d3>|+44(0)7700900<d3>|028 9649 6<d3>|tel:«+44-20-7946-0<d3>»?07700900<d3>|\
0207946 0<d3>
DE: 0171 / 39200<d2>|0171-39200<d2>|(030) 23125 <d3>|+49 (0)30 / 23125-<d3>|+49 171 39200<d2>|0049 171 39200<d2>|\
030/23125<d3>|0176 04 06 90 <d2>|+49-176-040690<d2>|+49 (171) 39 200 <d2>|089 / 99 99 8-<d3>?0171392000<d1>|\
030 23125<d3>
FR: 06 39 98 <d2> <d2>|01.99.00.<d2>.<d2>|06-39-98-<d2>-<d2>|+33 6 39 98 <d2> <d2>|+33 (0)6 39 98 <d2> <d2>|\
+3363998<d4>|0033 6 39 98 <d2> <d2>|06/39/98/<d2>/<d2>|+33.6.39.98.<d2>.<d2>?063998<d4>|06 399 8<d1> <d3>
ES: +34 6<d2> <d3> <d3>|+34 6<d2> <d2> <d2> <d2>|+34.6<d2>.<d3>.<d3>|(+34) 6<d2><d3><d3>|0034 6<d2> <d3> <d3>?\
6<d2> <d2> <d2> <d2>|6<d2> <d3> <d3>|6<d2>-<d3>-<d3>|91 <d3> <d2> <d2>|6<d2><d3><d3>
IT: +39 33<d1> <d3> <d4>|+39 06 <n><d3> <d4>|0039 34<d1> <d7>|+39.34<d1>.<d7>?33<d1> <d3> <d4>|34<d1>/<d7>|\
33<d1>-<d7>|02 <n><d3> <d4>|32<d1> <d2> <d2> <d3>
NL: 06-<n><d7>|06 <n><d3> <d4>|+31 6 <n><d7>|020-<n><d6>|+31 (0)6 <n><d3> <d4>|06-<n><d1> <d2> <d2> <d2>|\
+31(0)6-<n><d7>?06<n><d7>
BE: 047<d1> <d2> <d2> <d2>|047<d1>/<d2>.<d2>.<d2>|+32 47<d1> <d2> <d2> <d2>|02/<n><d2>.<d2>.<d2>|\
+32 (0)47<d1>/<d2> <d2> <d2>
CH: 079 <d3> <d2> <d2>|+41 79 <d3> <d2> <d2>|079/<d3> <d2> <d2>|+41 (0)44 <d3> <d2> <d2>|0041 79 <d3> <d2> <d2>
AT: 0664 <z><d6>|+43 664 <d3> <d2> <d2>|0664/<d3> <d2> <d2>|+43 (0) 664 / <d7>|0664-<z><d6>
PL: +48 50<d1> <d3> <d3>|+48 22 <n><d2> <d2> <d2>|(22) <n><d2> <d2> <d2>|0048 60<d1>-<d3>-<d3>?50<d1> <d3> <d3>|\
60<d1>-<d3>-<d3>
CZ/SK: +420 60<d1> <d3> <d3>|+421 905 <d3> <d3>|0905 <d3> <d3>|00420 77<d1> <d3> <d3>?60<d1> <d3> <d3>|77<d1><d3><d3>
Nordic: 070-174 06 <d2>|070 174 06 <d2>|08-465 004 <d2>|+46 70 174 06 <d2>|+46(0)70-17406<d2>|+47 412 <d2> <d3>|\
+47 91 <d2> <d2> <d2>|+45 20 <d2> <d2> <d2>|040 <n><d2> <d4>|+358 40 <n><d2> <d4>|050-<n><d6>|+354 6<d2> <d4>|\
(+45) 31<d6>?412 <d2> <d3>|20 <d2> <d2> <d2>|6<d2>-<d4>|91<d6>
RU/KZ: 8 (912) <d3>-<d2>-<d2>|+7 912 <d3> <d2> <d2>|8-912-<d3>-<d2>-<d2>|8 912 <d3> <d2> <d2>|+7(912)<d3>-<d2>-<d2>|\
+7-701-<d3>-<d4>|8(495)<d3>-<d2>-<d2>?8912<d7>|912 <d3>-<d2>-<d2>
UA/BY: +38 (067) <d3>-<d2>-<d2>|067 <d3>-<d2>-<d2>|(067) <d3> <d2> <d2>|+380 50 <d3> <d2> <d2>|\
+375 (29) <d3>-<d2>-<d2>?067<d7>
TR: 0532 <d3> <d2> <d2>|+90 532 <d3> <d2> <d2>|0 (532) <d3> <d2> <d2>|0(532) <d3> <d4>|+90 (532) <d3> <d4>|\
0 532 <d3> <d2> <d2>
India: +91 98<d3> <d5>|+91-98<d8>|+91 98<d3>-<d5>|022-<n><d3> <d4>|0091 98<d8>|+91 (0)98<d3> <d5>|098<d3> <d5>?\
98<d3> <d5>|98<d8>
China: +86 138 <d4> <d4>|010-<n><d7>|(+86)138<d8>|0086-138-<d4>-<d4>|+86-10-<n><d7>|021 <n><d3> <d4>|+86 139<d8>?\
138 <d4> <d4>|139-<d4>-<d4>|137<d8>|186<d1> <d3> <d4>
Japan/Korea: 090-<d4>-<d4>|03-<n><d3>-<d4>|+81 90-<d4>-<d4>|090 <d4> <d4>|(03)<n><d3>-<d4>|03（<n><d3>）<d4>|\
+81-3-<n><d3>-<d4>|010-<n><d3>-<d4>|02-<n><d2>-<d4>|+82 10-<n><d3>-<d4>|010.<n><d3>.<d4>|+82(0)10-<n><d3>-<d4>?\
090<d8>|010<n><d7>
Brazil: (11) 9<d4>-<d4>|+55 11 9<d4>-<d4>|+55 (21) 9<d4>-<d4>|(031) 9<d4>-<d4>|(11) 9 <d4>-<d4>|+55 11 9 <d4> <d4>|\
(41)9<d4>-<d4>?11 9<d4>-<d4>|11 9<d4> <d4>|119<d8>
Latin America: +52 55 <n><d3> <d4>|(55) <n><d3>-<d4>|+54 9 11 <n><d3>-<d4>|011 15-<n><d3>-<d4>|+56 9 <n><d3> <d4>|\
+57 300 <d3> <d4>|+51 987 <d3> <d3>|+598 99 <d3> <d3>|+593 99 <d3> <d4>|+52 1 55 <n><d3> <d4>?55 <n><d3> <d4>|\
9 <n><d3> <d4>|300 <d3> <d4>|987 <d3> <d3>
Australasia: 0491 57<d1> <d3>|(02) 5550 <d4>|+61 491 57<d1> <d3>|+61 (0)491 57<d1> <d3>|0491-57<d1>-<d3>|\
02 5550 <d4>|021 <n><d2> <d4>|+64 21 <n><d2> <d4>|027-<n><d2>-<d4>|+61 2 5550 <d4>?049157<d4>|1300 97<d1> <d3>
Africa: 082 <n><d2> <d4>|+27 82 <n><d2> <d4>|0803 <n><d2> <d4>|+234 803 <n><d2> <d4>|0712 <d3> <d3>|+254 712 <d6>|\
0100 <d3> <d4>|+20 100 <d3> <d4>|+212 6 61 <d2> <d2> <d2>|+233 24 <d3> <d4>|+251 91 <d3> <d4>|0712-<d6>?0803<d7>|\
0712<d6>
Middle East: 050-<n><d2>-<d4>|054-<n><d6>|+972-50-<n><d2>-<d4>|+971 50 <n><d2> <d4>|050 <n><d2> <d4>|\
+966 50 <n><d2> <d4>|0912 <d3> <d4>|+98 912 <d3> <d4>|+961 3 <d3> <d3>|+962 7 9<d3> <d4>|+973 3<d3> <d4>|\
00971 50 <n><d6>?05<d1><n><d6>|0912<d7>
South Asia: 0300-<n><d6>|+92 300 <n><d6>|01712-<d6>|+880 1712-<d6>|+94 77 <d3> <d4>|077 <d3> <d4>|+977 98<d2>-<d6>|\
0092-300-<n><d6>?01712<d6>
South-East Asia: 0812-<d4>-<d4>|+62 812-<d4>-<d4>|0917 <d3> <d4>|+63 917 <d3> <d4>|090 <d3> <d2> <d2>|\
+84 90 <d3> <d2> <d2>|081-<d3>-<d4>|+66 81 <d3> <d4>|012-<n><d2> <d4>|+60 12-<n><d2> <d4>|+65 9<d3> <d4>|\
+852 9<d3> <d4>|0912-<d3>-<d3>|(02)<n><d3>-<d4>|+886 912 <d3> <d3>|(+65) 8<d3>-<d4>|+855 12 <d3> <d3>?9<d3> <d4>|\
9<d3>-<d4>|0812<d8>
South and east Europe: +351 912 <d3> <d3>|+30 694 <d3> <d4>|+36 30 <n><d2> <d4>|06 30 <n><d2> <d4>|\
06-30/<n><d2>-<d4>|0722 <d3> <d3>|+40 722 <d3> <d3>|0722.<d3>.<d3>|091 <n><d2> <d4>|091/<n><d2>-<d4>|\
064/<n><d2>-<d2>-<d2>|+381 64 <n><d2> <d4>|0888 <d3> <d3>|+359 888 <d3> <d3>|+370 612 <d5>|+371 2<d3> <d4>|\
+372 5<d3> <d4>|+385 91 <n><d2> <d4>|+386 41 <d3> <d3>?912 <d3> <d3>|694 <d3> <d4>|8 612 <d5>|210 <n><d6>|694<d7>
Ireland and islands: 085 <n><d2> <d4>|+353 85 <n><d2> <d4>|(01) <n><d2> <d4>|+352 621 <d3> <d3>|+356 99<d2> <d4>|\
+357 99 <d6>|087-<n><d2><d4>
"""


# IBAN: BBAN structures of the registry that ISO 13616's authority publishes.
BBANS = dict(
    pair.split("=")
    for pair in """
AD=<d8><U12> AE=<d19> AL=<d8><U16> AT=<d16> AZ=<A4><U20> BA=<d16> BE=<d12> BG=<A4><d6><U8> BH=<A4><U14>
BR=<d23><A1><U1> BY=<U4><d4><U16> CH=<d5><U12> CR=<d18> CY=<d8><U16> CZ=<d20> DE=<d18> DK=<d14> DO=<U4><d20> EE=<d16>
EG=<d25> ES=<d20> FI=<d14> FO=<d14> FR=<d10><U11><d2> GB=<A4><d14> GE=<A2><d16> GI=<A4><U15> GR=<d7><U16> GT=<U24>
HR=<d17> HU=<d24> IE=<A4><d14> IL=<d19> IQ=<A4><d15> IS=<d22> IT=<A1><d10><U12> JO=<A4><d4><U18> KW=<A4><U22>
KZ=<d3><U13> LB=<d4><U20> LC=<A4><U24> LI=<d5><U12> LT=<d16> LU=<d3><U13> LV=<A4><U13> LY=<d21> MC=<d10><U11><d2>
MD=<U20> ME=<d18> MK=<d3><U10><d2> MT=<A4><d5><U18> MU=<A4><d16>000<A3> NL=<A4><d10> NO=<d11> PK=<A4><U16> PL=<d24>
PS=<A4><U21> PT=<d21> QA=<A4><U21> RO=<A4><U16> RS=<d18> SA=<d2><U18> SC=<A4><d20><A3> SE=<d20> SI=<d15> SK=<d20>
SM=<A1><d10><U12> ST=<d21> SV=<A4><d20> TL=<d19> TN=<d20> TR=<d5>0<U16> UA=<d6><U19> VA=<d18> VG=<A4><d16> XK=<d16>
""".split()
)

# Keys: shapes as the providers document them.
TOKENS = """
AKIA<t16>|ASIA<t16>|aws_secret_access_key = «<w38>/<w>»|github_pat_<w22>_<w59>|glpat-<b20>|glrt-<b20>|glptt-<x40>
gldt-<b20>|xoxb-<z><d11>-<z><d12>-<w24>|xoxp-<z><d11>-<z><d11>-<z><d12>-<x32>|xapp-1-A<U10>-<d13>-<x64>
xoxe.xoxp-1-<w160>|https://hooks.slack.com/services/T<U10>/B<U10>/«<w24>»
https://discord.com/api/webhooks/<z><d17>/«<b68>»|rk_live_<w24>|sk_live_<w99>|whsec_<w32>|sk_test_<w24>|AIza<b35>
GOCSPX-<b28>|ya29.a0<b140>|1//0g<b60>|sk-proj-<b74>T3BlbkFJ<b74>|sk-svcacct-<b60>T3BlbkFJ<b40>|sk-ant-api03-<b93>AA
hf_<w34>|r8_<w37>|gsk_<w52>|pplx-<w48>|xai-<w80>|sk-or-v1-<x64>|dapi<x32>|lsv2_pt_<x32>_<x10>|nvapi-<b64>
sk-lf-<x8>-<x4>-4<x3>-a<x3>-<x12>|tvly-dev-<w32>|pcsk_<w6>_<w63>|rubygems_<x48>|dckr_pat_<b27>|SG.<b22>.<b43>
key-<x32>|<x32>-us<d2>|SK<x32>|<z><d9>:AA<b33>|M<w23>.<w6>.<b38>|shpat_<x32>|shpss_<x32>|sq0atp-<b22>|sq0csp-<b43>
EAAA<b60>|figd_<b40>|secret_<w43>|ntn_<d11><w35>|lin_api_<w40>|pat<w14>.<x64>|2/<z><d15>/<z><d15>:<x32>
ATATT3xFfGF0<b171>=<X8>|ATBB<w32>|sl.<b135>|dop_v1_<x64>|nfp_<w40>|rnd_<w28>|dp.pt.<w43>|hvs.<b95>|hvs.<b24>
<w14>.atlasv1.<b67>|pul-<x40>|glsa_<w32>_<x8>|NRAK-<U27>|sntryu_<x64>|dt0c01.<U24>.<U64>|sqp_<x40>|squ_<x40>
PMAK-<x24>-<x34>|pscale_tkn_<b43>|sbp_<x40>|tfp_<b44>_<w14>|CFPAT-<b43>|duffel_live_<b43>|shippo_live_<x40>
FLWSECK-<x32>-X|CLOJARS_<x60>|pnu_<w36>|xkeysib-<x64>-<w16>|LTAI5t<w18>|bkua_<x40>|EZAK<w54>|live_<x35>
AGE-SECRET-KEY-1<U58>|ops_eyJ<b200>|rdme_xn8s9h<l64>|HRKU-AA<b58>|phx_<w43>|sk_<x48>|cio<w32>|tskey-auth-<w17>-<w32>
postgres://app:«<w20>»@db.northwind.dev:5432/prod
mongodb+srv://svc-orders:«<w16>»@cluster0.ab1cd.mongodb.net/?retryWrites=true|redis://:«<w24>»@cache.internal:6379/0
mysql+pymysql://root:«<a6><d4>!»@10.0.3.7/shop|amqps://worker:«<w18>»@mq.brightlabs.io/vh
https://deploy:«<w20>»@git.brightlabs.io/infra.git|cloudinary://<z><d14>:«<b27>»@brightlabs
ftp://backup:«<a5><d3>#<A2>»@files.northwind.dev
jdbc:sqlserver://db.northwind.dev;user=sa;password=«<w14>#<d2>»;encrypt=true
smtp://mailer%40northwind.dev:«<w16>»@smtp.northwind.dev:587|Authorization: Bearer «<b43>»
Authorization: SSWS «00<b40>»|Authorization: token «<x40>»|X-Api-Key: «<x32>»|x-auth-token: «<w32>»
Authorization: Basic «<w38>==»|Cookie: session_token=«<b43>»|Ocp-Apim-Subscription-Key: «<x32>»|apikey=«<w32>»
?access_token=«<w40>»&v=2|DD_API_KEY=«<x32>»|TWILIO_AUTH_TOKEN="«<x32>»"|WANDB_API_KEY=«<x40>»
export OPENAI_KEY='«<w40>»'|client_secret: "«<w3>8Q~<b34>»"|AZURE_CLIENT_SECRET=«<b34>~<b3>»
SECRET_KEY = 'django-insecure-«<l50>»'|RAILS_MASTER_KEY=«<x32>»|"privateKey": "0x«<x64>»"
heroku api key: «<x8>-<x4>-4<x3>-9<x3>-<x12>»|const apiSecret = "«<w32>";»|api_token: «<w36>»|--token «<w30>»
--api-key=«<b32>»|sig=«<w40>%2B<w2>%3D»&se=2030-01-01|otpauth://totp/Acme:ops?secret=«<t32>»&issuer=Acme
machine git.northwind.dev login ci password «<w24>»|curl -u admin:«<a6>-<d4>» https://git.northwind.dev/api
kubeadm join 10.0.0.4:6443 --token «<l6>.<l16>»|PGPASSWORD=«<a7><d3>!» psql|<password>«<a6><d4>!»</password>
"password": "«<A1><a6>#<d3>»"|password: «<A1><a7><d2>!»|passwd=«<w12>»|pwd: «<a8><d2>»|Passwort: «<A1><a6><d4>»
mot de passe : «<a6><d3>!»|contraseña: «<A1><a6>*<d2>»|hasło: «<a7><d3>»|пароль: «<a8><d2>»|密码：«<a6><d4>»
パスワード：«<a7><d3>»|my password is «<A1><a6><d4>!»|the wifi password is «<a5>-<a5>-<d3>»|pw = «<w12>»
login: anna / pass: «<a6><d4>»|DB_PASS=«<w16>»|senha: «<a6>@<d3>»|wachtwoord: «<A1><a7><d2>»|lösenord: «<a8><d3>»
parola: «<a6><d4>»|şifre: «<a6>.<d4>»|spring.datasource.password=«<w16>»|secret-key: «<w40>»
"aws_session_token": "«<w160>=»"|sshpass -p «<w14>» ssh ci@10.0.0.4|IDENTIFIED BY '«<a6><d4>!»'
"""
