"""Forward pass of a stored policy in NumPy, in float32: an LSTM where there is memory, hidden layers, heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import require

__all__ = ["Memory", "Network"]

Floats = NDArray[np.float32]
Memory = tuple[Floats, Floats]

_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "tanh": np.tanh,
    "relu": lambda values: np.maximum(values, np.float32(0.0)),
}


class Network:
    """Layers by name: "lstm.*" if there is memory, "layers.<i>.*", and heads such as "head.*".

    Args:
        tensors: float32 weights (rows, columns) and biases (rows,); the LSTM's are in torch's order and layout, gates
            input, forget, cell, output.
        layers: number of hidden layers.
        activation: "tanh" or "relu".
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]], layers: int, activation: str) -> None:
        """See the class."""
        self._tensors = tensors
        self._layers = layers
        self._activation = _ACTIVATIONS[activation]
        # stored once in the layout that the products want
        self._weights = {name: np.ascontiguousarray(value.T) for name, value in tensors.items() if value.ndim == 2}

    @property
    def lstm_size(self) -> int | None:
        """Numbers that the LSTM hands on, None without an LSTM."""
        recurrent = self._tensors.get("lstm.weight_hh")
        return None if recurrent is None else int(recurrent.shape[1])

    def linear(self, name: str, values: Floats) -> Floats:
        """Values (n, columns) to (n, rows)."""
        return np.asarray(values @ self._weights[f"{name}.weight"] + self._tensors[f"{name}.bias"])

    def hidden(
        self, observations: Floats, state: Memory | None, episode_start: NDArray[np.bool_] | None
    ) -> tuple[Floats, Memory | None]:
        """Last hidden layer (n, width) for observations (n, d), and the memory to hand on, two arrays (1, n, size).

        Args:
            observations: normalised, float32.
            state: memory of the step before, None for none.
            episode_start: (n,) rows whose memory is forgotten first.

        Raises:
            InvalidInputError: for a memory of another shape.
        """
        values, memory = observations, None
        if self.lstm_size is not None:
            memory = self._lstm(values, self._remembered(len(values), state, episode_start))
            values = memory[0][0]
        for i in range(self._layers):
            values = self._activation(self.linear(f"layers.{i}", values))
        return values, memory

    def _remembered(self, n: int, state: Memory | None, episode_start: NDArray[np.bool_] | None) -> Memory:
        shape = (1, n, self.lstm_size or 0)
        if state is None:
            return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        found = [np.shape(part) for part in state]
        require(found == [shape, shape], "shapes of the policy's memory", found, f"two of {shape}")
        hidden, cell = (np.asarray(part, np.float32) for part in state)
        if episode_start is None:
            return hidden, cell
        require(np.shape(episode_start) == (n,), "shape of episode_start", np.shape(episode_start), f"({n},)")
        going = ~np.asarray(episode_start, bool)[None, :, None]
        return np.where(going, hidden, np.float32(0.0)), np.where(going, cell, np.float32(0.0))

    def _lstm(self, values: Floats, memory: Memory) -> Memory:
        """One step of Hochreiter and Schmidhuber's cell with a forget gate, as torch.nn.LSTM numbers its parts."""
        of_input = values @ self._weights["lstm.weight_ih"] + self._tensors["lstm.bias_ih"]
        of_memory = memory[0][0] @ self._weights["lstm.weight_hh"] + self._tensors["lstm.bias_hh"]
        write, keep, news, show = np.split(of_input + of_memory, 4, axis=1)
        cell = _sigmoid(keep) * memory[1][0] + _sigmoid(write) * np.tanh(news)
        hidden = _sigmoid(show) * np.tanh(cell)
        return hidden[None], cell[None]


def _sigmoid(values: Floats) -> Floats:
    half = np.float32(0.5)
    return np.asarray(half * (np.float32(1.0) + np.tanh(half * values)))
