"""Networks, and how pictures go through them."""
