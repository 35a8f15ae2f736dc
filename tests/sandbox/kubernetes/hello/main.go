// Hello answers every request with the name of its pod.
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	fmt.Println("hello from a pod")
	handler := func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, os.Getenv("HOSTNAME")) }
	if err := http.ListenAndServe(":8080", http.HandlerFunc(handler)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
