"""Live progress of a study: in the terminal, on a page, and from another terminal."""
