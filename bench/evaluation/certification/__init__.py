"""Images and stored runs certified: what no attack can break."""
