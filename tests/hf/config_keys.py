#!/usr/bin/env python3
"""Checks that every key that transformers' classes declare is known: config_keys.py BIN. The
default config of each family that transformers has is read; no key of it may be noted as one that
the class does not read, or refused.
"""
import json, re, subprocess, sys, tempfile

from transformers.models.auto.configuration_auto import CONFIG_MAPPING


def said(bin_, config):
    with tempfile.TemporaryDirectory() as folder:
        path = folder + "/config.json"
        json.dump(config, open(path, "w"))
        return subprocess.run([bin_ + "/search-arch", path, "--parameters", "1e6"],
                              capture_output=True, text=True).stderr


def main():
    bin_, failures = sys.argv[1], 0
    families = re.search("Supported: (.*)", said(bin_, {"model_type": "?"})).group(1).split(", ")
    for family in families:
        if family not in CONFIG_MAPPING:
            print(f"skipped {family}: transformers has no such class")
            continue
        text = said(bin_, CONFIG_MAPPING[family]().to_dict())
        wrong = re.findall(".*(?:does not read|changes the function).*", text)
        failures += bool(wrong)
        print(f"{'FAILED ' if wrong else 'ok     '} {family} {' '.join(wrong)}")
    sys.exit(failures > 0)


main()
