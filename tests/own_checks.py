"""Checks of a user's own, for the tests of verifiers: good ones, and all kinds of bad ones."""

import os
import sys
import time


def mentions_the_prompt(prompt, response, expected):
    return prompt[-1].content in response


def share_of_a(prompt, response, expected):
    return response.count("a") / len(response)


def adds_up(prompt, response, expected):
    left, _, right = response.partition("=")
    return sum(map(int, left.split("+"))) == int(right)


def in_which_process(prompt, response, expected):
    return os.getpid()


def noisy(prompt, response, expected):
    sys.stdout.write('{"value": 1.0}\n')
    sys.stdout.flush()
    os.write(1, b'{"value": 1.0}\n')
    return False


def as_told(prompt, response, expected):
    """Goes wrong in the way the response names."""
    match response:
        case "hangs":
            time.sleep(60)
        case "dies":
            os._exit(7)
        case "raises":
            raise ValueError("no such thing")
        case "exits":
            sys.exit(3)
        case "NaN":
            return float("nan")
        case "words":
            return "yes"
        case "nothing":
            return None
    return True


NOT_A_FUNCTION = 3
