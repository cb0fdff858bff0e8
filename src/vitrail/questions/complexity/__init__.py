"""Q7's law: what the formula says of cost, and what the clock says of the formula."""
