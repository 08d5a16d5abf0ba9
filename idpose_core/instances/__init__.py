"""Object instances: detectors, linking over time, square crops."""
