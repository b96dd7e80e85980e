"""What the prompts are: which repeat each other, what they are about, and which the policy has mastered."""
