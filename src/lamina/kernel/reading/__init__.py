"""From words to a typed call on memory."""
