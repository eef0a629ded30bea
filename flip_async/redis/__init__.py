"""What many processes share of Flip: tokens, webhooks, points and commands, in Redis or Valkey."""
