"""What the front door does: from a model and data to an answer that says its worth."""
