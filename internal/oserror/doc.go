// Package oserror tells what an error of the operating system means where systems have different numbers for the same thing.
package oserror
