"""The cameras of a finished model: what it determines of them, and what priors must."""
