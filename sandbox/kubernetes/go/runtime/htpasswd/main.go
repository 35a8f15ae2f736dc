// Htpasswd prints a line for the registry's password file: the user is its argument, the password comes on standard
// input, where no other process can read it.
package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/bcrypt"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: htpasswd USER < PASSWORD")
	}
	password, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	// The passwords are long and random, and checked on every request: the lowest cost is enough.
	hash, err := bcrypt.GenerateFromPassword(password, bcrypt.MinCost)
	if err != nil {
		fail(err)
	}
	fmt.Printf("%s:%s\n", os.Args[1], hash)
}

func fail(reason any) {
	fmt.Fprintln(os.Stderr, "htpasswd:", reason)
	os.Exit(1)
}
