"""Reads a file as others do, and prints what it says as JSON."""

import json
import sys


def families(text_string_to_metric_families):
    with open(sys.argv[2], encoding="utf-8") as file:
        read = text_string_to_metric_families(file.read())
        return [
            {
                "name": family.name,
                "type": family.type,
                "unit": family.unit,
                "help": family.documentation,
                "samples": [{"name": sample.name, "labels": sample.labels} for sample in family.samples],
            }
            for family in read
        ]


def openmetrics():
    from prometheus_client.openmetrics import parser

    return families(parser.text_string_to_metric_families)


def classic():
    from prometheus_client import parser

    return families(parser.text_string_to_metric_families)


def yaml():
    import yaml

    with open(sys.argv[2], encoding="utf-8") as file:
        # GitHub's `on` is a word, not a truth; documents hold no dates.
        return list(yaml.load_all(file, Loader=yaml.BaseLoader))


print(json.dumps({"openmetrics": openmetrics, "classic": classic, "yaml": yaml}[sys.argv[1]]()))
