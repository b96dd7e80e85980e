"""Bytes as text inside a `<script>` element of a UTF-8 page: 7 bits a character, 14 % over the bytes; base64 has 33 %.

Three of the 128 characters do not survive in HTML, and each stands as one beyond ASCII: a NUL is replaced, a carriage
return becomes a newline, a `<` could open a tag. report.js reads it back.
"""

import numpy as np

SUBSTITUTES = {0: "¡", 13: "¢", 60: "£"}


def encode(data: bytes) -> str:
    """⌈8n/7⌉ characters for n bytes; the last is filled up with zeros."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    sevens = np.append(bits, np.zeros(-len(bits) % 7, np.uint8)).reshape(-1, 7)
    return np.packbits(np.pad(sevens, ((0, 0), (1, 0))), axis=1).tobytes().decode("ascii").translate(SUBSTITUTES)
