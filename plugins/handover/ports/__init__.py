"""What decisions depend on outside of this process, as small interfaces in the field's words; `handover.adapters` has
what stands behind each in production, and `tests/twins` what stands behind it in memory. No I/O here.
"""
