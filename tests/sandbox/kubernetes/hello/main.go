// Hello answers with the name of its pod, or with what it is asked to fetch (/fetch?url=...).
// `hello say TEXT CODE` prints a text and exits with a code instead.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "say" {
		fmt.Println(os.Args[2])
		code, _ := strconv.Atoi(os.Args[3])
		os.Exit(code)
	}
	fmt.Println("hello from a pod")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv("HOSTNAME")) })
	http.HandleFunc("/fetch", fetch)
	if err := http.ListenAndServe(":8080", nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fetch(w http.ResponseWriter, r *http.Request) {
	answer, err := http.Get(r.URL.Query().Get("url"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	if _, err := io.Copy(w, answer.Body); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
