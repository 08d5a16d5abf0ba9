"""Videos from the open network: addresses, a polite pace, resumable transfers, YouTube."""
