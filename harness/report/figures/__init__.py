"""The report's figures: each a function of the summary and a layout."""
