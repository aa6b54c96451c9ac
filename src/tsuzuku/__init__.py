"""Tsuzuku (続く): a training server for PyTorch whose runs go on, bit for bit, whatever happens."""

__version__ = "0.1.0"
