"""The servers of one machine: `ti up` starts them, `ti down` stops them, `ti doctor` says what is wrong."""
