// Lints an OpenAPI document with the engine of Redocly, which by itself asks nobody on the network: lint.mjs FILE.

import { createConfig, formatProblems, getTotals, lint } from "@redocly/openapi-core";

const config = await createConfig({ extends: ["recommended-strict"] });
const problems = await lint({ ref: process.argv[2], config });
const totals = getTotals(problems);
formatProblems(problems, { format: "stylish", totals, version: "" });
process.exitCode = totals.errors + totals.warnings > 0 ? 1 : 0;
