"""Which colour serves: the switch forward, the way back, the preview, and draining. Operators are in `operators`."""
