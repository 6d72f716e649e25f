"""Random texts that are hard on tokenizers: scripts, marks, digits and white space of many kinds,
contractions, added tokens, long runs. Only characters that this Python's Unicode knows: libraries
disagree about those assigned later."""
import unicodedata

SPACES = [
    " ", "  ", "\n", "\r\n", "\t", "\n\n \n", "   ", "\u00a0", "\u3000", "\u0085", "\u180e",
    "\u2028", "\u200b", "\x0b", "\x1c", "\u1680", "\u202f", "\ufeff"]
ENDINGS = ["'s", "'S", "'ſ", "'t", "'RE", "'ve", "'m", "'lL", "'d", "’s", "I'm", "don't", " 'tis"]
MARKS = [
    "e\u0301", "a\u0323\u0302", "\u1100\u1161\u11a8", "\u0041\u030a", "\u212b", "\u0344", "\u0958",
    "q\u0307\u0323", "Å", "ﬁ", "ǅ"]
NARROW = [(0x20, 0x7f), (0x80, 0x300), (0x300, 0x370), (0x370, 0x800)]
WIDE = [(0x800, 0xd800), (0xe000, 0x10000), (0x4e00, 0x9fff), (0xac00, 0xd7a4), (0x1100, 0x1200),
        (0x900, 0xe00)]
HIGH = [(0x10000, 0x20000), (0x1f300, 0x1fa00), (0x20000, 0x30000)]


def letters(r, ranges, most):
    return "".join(chr(r.randrange(*r.choice(ranges))) for _ in range(r.randint(1, most)))


def part(r, added):
    k = r.random()
    if k < .25:
        return r.choice([" ", "", " "]) + "".join(
            r.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ") for _ in range(r.randint(1, 9)))
    if k < .4:
        return r.choice(SPACES)
    if k < .5:
        return r.choice(ENDINGS)
    if k < .58:
        return str(r.randint(0, 10 ** r.randint(1, 12)))
    if k < .66:
        return letters(r, NARROW, 6)
    if k < .74:
        return letters(r, WIDE, 6)
    if k < .8:
        return letters(r, HIGH, 4)
    if k < .85:
        return r.choice("½²Ⅷ٣४①𝟘㊿৴߉")
    if k < .9:
        return r.choice(MARKS)
    if k < .95 or not added:
        return "".join(
            r.choice("!@#$%^&*()_+-=[]{};:,.<>/?|\\\"`~▁") for _ in range(r.randint(1, 6)))
    return r.choice(["", "", " "]) + r.choice(added) + r.choice(["", "", " "])


def random_text(r, added=(), most=40):
    text = "".join(part(r, added) for _ in range(r.randint(1, most)))
    return "".join(c for c in text if unicodedata.category(c) != "Cn")
