"""The command line: one file per verb, each short; torch is loaded only by verbs that need it."""
