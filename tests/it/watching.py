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


def promql():
    """What each expression of a list asks for: the selectors, with the labels that they name."""
    import promql_parser

    def selectors(expression):
        found = []

        def visit(node):
            if isinstance(node, promql_parser.VectorSelector):
                labels = {matcher.name: matcher.value for matcher in node.matchers.matchers}
                found.append({"name": node.name, "labels": labels})

        try:
            promql_parser.walk(promql_parser.parse(expression), visit)
        except ValueError as error:
            sys.exit(f"{expression}: {error}")
        return found

    with open(sys.argv[2], encoding="utf-8") as file:
        return [selectors(expression) for expression in json.load(file)]


readers = {"openmetrics": openmetrics, "classic": classic, "yaml": yaml, "promql": promql}
print(json.dumps(readers[sys.argv[1]]()))
