"""What the system tests share: stages (where an exchange runs), processes, status, leak counts."""
