"""Price chain: a fleet trades energy against a price that is a Markov chain, small enough to be solved exactly."""

from v2g_env.price_chain.instance import Instance

__all__ = ["Instance"]
