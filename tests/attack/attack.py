"""Attacks the tools for some seconds and prints the outcomes, as a table of counts by class.

usage: attack.py BIN FAIL_NTH.so [--seconds N] [--seed N] [PART...]

  failures   one call (of malloc, mmap, open, read, write, fsync, close, rename) fails in every tool
  mutations  inputs with changed bytes: streams, directories, tokenizers, texts
  kills      kd-train is killed at some moment and resumed, until it is done

Classes. Good: `right`, status 0 and the output of an undisturbed run (of mutations: any output);
`told`, another status, a message, and no output but the right one. Bad, and the run ends with
status 1: `wrong`, another output, whatever the status; `silent`, a status without a message;
`signal`; `hang`, over 20 seconds. What was bad is printed as the command that does it, and the
folder is kept."""
import argparse
import collections
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LLAMA = ROOT + "/tests/golden/families/llama"
CALLS = ["malloc", "mmap", "open", "read", "write", "fsync", "close", "rename"]
CLASSES = ["right", "told", "wrong", "silent", "signal", "hang"]
GOOD = CLASSES[:2]


class Attack:
    def __init__(self, options):
        self.bin, self.library = os.path.abspath(options.bin), os.path.abspath(options.library)
        self.random = random.Random(options.seed)
        self.counts = collections.defaultdict(collections.Counter)
        self.bad = 0
        self.folder = tempfile.mkdtemp(prefix="attack-")
        os.chdir(self.folder)
        self.prepare()

    # ---- runs

    def run(self, words, **environment):
        """Status (negative: a signal; None: a hang) and what it said. Its output goes to OUT."""
        env = {**os.environ, "OMP_WAIT_POLICY": "passive", **environment}
        try:
            done = subprocess.run([self.bin + "/" + words[0], *words[1:]], env=env, timeout=20,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE)
        except subprocess.TimeoutExpired:
            return None, b""
        return done.returncode, done.stderr

    def must(self, *words):
        status, said = self.run(words)
        if status:
            sys.exit("attack: %s: %s" % (" ".join(words), said.decode(errors="replace")))

    def note(self, part, kind, words):
        self.counts[part][kind] += 1
        if kind not in GOOD:
            self.bad += 1
            print("%s: %s: cd %s; %s" % (part, kind, self.folder, words), flush=True)

    def prepare(self):
        shutil.copytree(LLAMA, "model")
        shutil.copy(ROOT + "/tests/golden/tokenizers_small/gpt2.json", "tokenizer.json")
        with open("text", "w") as f:
            f.write("The quick brown fox. caf\u00e9 <|endoftext|>\n" * 20)
        with open("lines", "w") as f:
            f.write('{"text": "one, two"}\n{"text": "three \\u00e9"}\n' * 10)
        with open("ids", "w") as f:
            for i in range(6):
                f.write(" ".join(str((7 * i + j) % 80) for j in range(17)) + "\n")
        for words in ("tokenize --ids ids --seq-length 17 -o data.tsz",
                      "hf-import model -o model.tsz",
                      "calib-acts model.tsz data.tsz --threads 1 -o acts.tsz",
                      "score-importance acts.tsz -o scores.tsz", "rank scores.tsz -o rank.tsz",
                      "kd-train model --loss ce --data data.tsz --max-steps 1 --lora 2 "
                      "--threads 1 --adapter peft -o trained.tsz"):
            self.must(*words.split(), "--quiet")
        self.commands = [
            line.split() + ["--quiet"] for line in
            ("hf-import model -o OUT", "hf-export model.tsz OUT",
             "tokenize -m tokenizer.json text -o OUT",
             "tokenize -m tokenizer.json --field text lines -o OUT", "tokenize --ids ids -o OUT",
             "train-tokenizer text --vocab-size 270 -o OUT",
             "calib-acts model data.tsz --threads 1 -o OUT", "score-importance acts.tsz -o OUT",
             "rank scores.tsz -o OUT", "rank --magnitude model -o OUT",
             "slice-model model --rank rank.tsz --intermediate-size 24 -o OUT",
             "slice-model model.tsz --drop-layers 1 -o OUT", "ts-cat data.tsz -o OUT",
             "dump-logits model.tsz data.tsz --full --threads 1 -o OUT",
             "kd-train model --loss ce --data data.tsz --max-steps 2 --batch-size 2 --threads 1 "
             "--log log -o OUT",
             "kd-train model --loss ce --data data.tsz --max-steps 2 --batch-size 2 --threads 1 "
             "--lora 2 -o trained.tsz --adapter OUT",
             "hf-export model OUT --merge peft", "probe-layers model data.tsz --threads 1 -o OUT",
             "score-taylor model data.tsz --threads 1 -o OUT")]
        self.right = [self.output(words) for words in self.commands]

    def output(self, words):
        self.must(*words)
        return self.digest("OUT")

    def digest(self, path):
        """Of a file or of all files in a directory; empties the place."""
        h = hashlib.sha256()
        if os.path.isdir(path):
            for name in sorted(os.listdir(path)):
                h.update(name.encode() + b"\0" + open(path + "/" + name, "rb").read())
            shutil.rmtree(path)
        elif os.path.exists(path):
            h.update(open(path, "rb").read())
            os.unlink(path)
        return h.hexdigest()

    def judge(self, part, words, status, said, right=None, how=""):
        sentence = said.count(b"\n") >= 1 and said.strip() != b""
        if status is None:
            kind = "hang"
        elif status < 0:
            kind = "signal"
        elif status == 0:
            kind = "right" if right is None or self.digest("OUT") == right else "wrong"
        elif os.path.exists("OUT") and (right is None or self.digest("OUT") != right):
            kind = "wrong"
        else:
            kind = "told" if sentence else "silent"
        self.note(part, kind, how + " ".join(words))
        self.digest("OUT")

    # ---- parts: each generator makes one trial a step

    def failures(self):
        reach = {}          # the largest N to try, and whether it is known to be the end
        while True:
            for call in CALLS:
                for i, words in enumerate(self.commands):
                    last, ended = reach.get((i, call), (8, False))
                    n = self.random.randint(1, last)
                    where = {
                        "LD_PRELOAD": self.library, "FAIL_CALL": call, "FAIL_N": str(n),
                        "FAIL_MARK": "mark"}
                    status, said = self.run(words, **where)
                    failed = os.path.exists("mark")
                    if failed:
                        os.unlink("mark")
                    if not failed:
                        reach[i, call] = max(1, n - 1), True
                    elif not ended and 2 * n > last:
                        reach[i, call] = 2 * last, False
                    self.judge("failures: " + call, words, status, said, self.right[i],
                               " ".join("%s=%s" % x for x in where.items()) + " ")
                    yield

    def mutate(self, data):
        data = bytearray(data)
        for _ in range(self.random.randint(1, 4)):
            at, how = self.random.randint(0, len(data)), self.random.randint(0, 4)
            if how == 0 and at < len(data):
                data[at] ^= 1 << self.random.randint(0, 7)
            elif how == 1 and at < len(data):
                data[at] = self.random.choice([0, 1, 0x7f, 0x80, 0xff, 0x22, 0x7b, 0xdf])
            elif how == 2:
                data[at:at + self.random.randint(1, 8)] = b""
            elif how == 3:
                data[at:at] = bytes(
                    self.random.randint(0, 255) for _ in range(self.random.randint(1, 8)))
            elif not self.random.randint(0, 3):
                del data[at:]
        return bytes(data)

    def mutations(self):
        def stream(name):
            return subprocess.run(["zstd", "-dcq", name], stdout=subprocess.PIPE, check=True).stdout

        targets = [
            ("x.tsz", stream("model.tsz"), [
                "slice-model x.tsz --drop-layers 1 -o OUT", "hf-export x.tsz OUT",
                "eval-ppl x.tsz data.tsz --threads 1"]),
            ("x.tsz", stream("data.tsz"), [
                "ts-cat x.tsz -o OUT", "calib-acts model x.tsz --threads 1 -o OUT"]),
            ("x.tsz", stream("acts.tsz"), ["score-importance x.tsz -o OUT"]),
            ("x.tsz", stream("scores.tsz"), ["rank x.tsz -o OUT", "ts-dump --hist x.tsz"]),
            ("x.tsz", stream("rank.tsz"), [
                "slice-model model --rank x.tsz --intermediate-size 24 --any-model -o OUT"]),
            ("model2/config.json", open("model/config.json",
                                        "rb").read(), ["hf-import model2 -o OUT"]),
            ("model2/model.safetensors", open("model/model.safetensors",
                                              "rb").read(), ["hf-import model2 -o OUT"]),
            ("peft2/adapter_config.json", open("peft/adapter_config.json",
                                               "rb").read(), ["hf-export model OUT --merge peft2"]),
            ("peft2/adapter_model.safetensors", open("peft/adapter_model.safetensors",
                                                     "rb").read(), [
                "hf-export model OUT --merge peft2"]),
            ("x.json", open("tokenizer.json", "rb").read(), ["tokenize -m x.json text -o OUT"]),
            ("x", open("lines", "rb").read(), ["tokenize -m tokenizer.json --field text x -o OUT"])]
        while True:
            for name, data, commands in targets:
                for folder in "model", "peft":
                    if not os.path.exists(folder + "2"):
                        shutil.copytree(folder, folder + "2")
                with open(name, "wb") as f:
                    # headers are small compared with the data, so half of the changes go there
                    head = self.random.choice([2000, len(data)])
                    f.write(self.mutate(data[:head]) + data[head:])
                for command in commands:
                    words = command.split() + ["--quiet"]
                    self.judge("mutations", words, *self.run(words))
                    yield
                if "/" in name:
                    shutil.rmtree(name.split("/")[0])

    def kills(self):
        train = [
            "kd-train", "model", "--loss", "ce", "--data", "data.tsz", "--max-steps", "12",
            "--batch-size", "2", "--save-steps", "2", "--threads", "1", "--quiet", "--output-dir",
            "run", "-o", "OUT", "--resume"]
        right = self.output(train)
        shutil.rmtree("run")
        while True:
            for attempt in range(100):
                p = subprocess.Popen([self.bin + "/" + train[0], *train[1:]],
                                     stderr=subprocess.PIPE)
                try:
                    p.wait(self.random.uniform(0.01, 0.1 + 0.02 * attempt))
                except subprocess.TimeoutExpired:
                    p.send_signal(
                        self.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
                said = p.stderr.read()
                if p.wait() == 0 and os.path.exists("OUT"):
                    break
            self.judge("kills", train, p.returncode, said, right)
            shutil.rmtree("run", ignore_errors=True)
            yield

    def table(self):
        print("%-20s" % "" + "".join("%10s" % c for c in CLASSES))
        for part, counts in sorted(self.counts.items()):
            print("%-20s" % part + "".join("%10d" % counts[c] for c in CLASSES))


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("bin")
    p.add_argument("library")
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("parts", nargs="*", default=["failures", "mutations", "kills"])
    options = p.parse_intermixed_args()
    attack, end = Attack(options), time.monotonic()
    for part in options.parts:
        end += options.seconds / len(options.parts)
        trials = getattr(attack, part)()
        while time.monotonic() < end:
            next(trials)
    attack.table()
    if not attack.bad:
        shutil.rmtree(attack.folder)
    good = sum(c[k] for c in attack.counts.values() for k in GOOD)
    print("%d passed, %d failed" % (good, attack.bad))
    sys.exit(attack.bad > 0)


if __name__ == "__main__":
    main()
