"""The quickstart from Python: train, look at the report, use the result, export it."""

import sys

import tunesmith

recipe = sys.argv[1] if len(sys.argv) > 1 else "recipes/quickstart.yaml"
run = tunesmith.train(recipe, overrides=sys.argv[2:])
print(run.report["task"])
print(run.generate("Hello, my kettle (order 48213) leaks. I need a new one by Friday!"))
print(run.export(to="merged"))
