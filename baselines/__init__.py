"""Certified baselines: optimisers, finite-sample bounds, certificates and the policies made from them."""
