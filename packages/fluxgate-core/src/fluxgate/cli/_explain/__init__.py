"""The command `explain`: a policy in words, and in numbers that are played on a real circuit."""
