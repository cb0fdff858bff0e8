"""What Q3 and Q4 measure and draw of attention, and what they claim of it."""
