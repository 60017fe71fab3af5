"""What Daphne lacks for this product: HTTPS, back-pressure, bounded bodies. Only here are Daphne and Twisted touched."""
