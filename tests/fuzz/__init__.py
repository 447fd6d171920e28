"""Parsers of outside bytes under a fuzzer: `targets` names them, `run` drives them with atheris, `corpus/` is what was found."""
