"""What a person does with a portfolio before a training: drafts, checks, comparisons, and other forms of its schema."""
