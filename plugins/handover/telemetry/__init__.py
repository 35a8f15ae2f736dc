"""What pods say of themselves at their metrics' path, understood: text, then series, then what they mean."""
