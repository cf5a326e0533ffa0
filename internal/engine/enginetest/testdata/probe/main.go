// Probe is the program in the images that the engine suite runs; enginetest.Probe says what its instructions mean.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	for _, word := range os.Args[1:] {
		op, arg, _ := strings.Cut(word, ":")
		switch op {
		case "out":
			fmt.Println(arg)
		case "err":
			fmt.Fprintln(os.Stderr, arg)
		case "raw":
			fmt.Print(arg)
		case "long":
			n, err := strconv.Atoi(arg)
			check(err)
			fmt.Println(strings.Repeat("0123456789", n/10+1)[:n])
		case "env":
			fmt.Println(arg + "=" + os.Getenv(arg))
		case "write":
			path, text, _ := strings.Cut(arg, ":")
			check(os.WriteFile(path, []byte(text), 0o644))
		case "cat":
			text, err := os.ReadFile(arg)
			if err != nil {
				text = []byte("no " + arg)
			}
			fmt.Println(string(text))
		case "lookup":
			// An engine that cannot ask the world for a name it does not know is long in saying so.
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			if _, err := net.DefaultResolver.LookupHost(ctx, arg); err != nil {
				fmt.Println("no " + arg)
			} else {
				fmt.Println("found " + arg)
			}
			cancel()
		case "wait":
			d, err := time.ParseDuration(arg)
			check(err)
			time.Sleep(d)
		case "deaf":
			signal.Stop(stop)
			signal.Ignore(syscall.SIGTERM)
		case "exit":
			code, err := strconv.Atoi(arg)
			check(err)
			os.Exit(code)
		default:
			fmt.Fprintln(os.Stderr, "probe: no instruction", strconv.Quote(word))
			os.Exit(2)
		}
	}
	select {}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(2)
	}
}
