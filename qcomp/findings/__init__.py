"""What a compilation finds that costs accuracy, each with a number and the option that helps."""
