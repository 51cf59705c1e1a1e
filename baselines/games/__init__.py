"""Games among the parties of a problem: coalitions and what they share, equilibria, and bridges to other tools."""
