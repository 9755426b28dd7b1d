"""What people say of answers that a scorer has judged: drawn at random with known probability, shown blind, kept."""
