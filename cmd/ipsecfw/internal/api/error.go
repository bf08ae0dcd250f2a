package api

import (
	"errors"
	"net/http"
	"strings"
)

// Code says what kind of failure an Error is, for a caller that decides.
type Code string

// The codes.
const (
	CodeBadRequest    Code = "bad-request"    // the request is not what the daemon understands
	CodeForbidden     Code = "forbidden"      // the caller may not do this
	CodeNotFound      Code = "not-found"      // nothing answers to the request's method and path
	CodeTooLarge      Code = "too-large"      // the request is larger than MaxRequest
	CodeInvalidPolicy Code = "invalid-policy" // the rule file, or a file it names, is wrong
	CodeMissingFiles  Code = "missing-files"  // the policy names files that did not come with it
	CodeLocksOut      Code = "locks-out"      // the policy would cut the caller's own connection
	CodeInternal      Code = "internal"       // the daemon or the kernel failed
	CodeNoDaemon      Code = "no-daemon"      // nobody answers at the socket; from the client alone
)

// Error is a failure that the other end can read.
type Error struct {
	Code     Code   `json:"code"`
	Message  string `json:"message"`            // what failed, on what; may be several lines
	Position string `json:"position,omitempty"` // file:line:column in the rule file
	Hint     string `json:"hint,omitempty"`     // what to do about it

	Files []NamedFile `json:"files,omitempty"` // with CodeMissingFiles
}

// NamedFile is a file that a rule file names.
type NamedFile struct {
	Path   string `json:"path"`   // as it is written there
	Need   string `json:"need"`   // who names it: the rule's position and name
	Secret bool   `json:"secret"` // it holds a key, and only its owner should be able to read it
}

// Error writes "position: message: hint".
func (e *Error) Error() string {
	parts := []string{e.Message}
	if e.Position != "" {
		parts = append([]string{e.Position}, parts...)
	}
	if e.Hint != "" {
		parts = append(parts, e.Hint)
	}
	return strings.Join(parts, ": ")
}

// status is the HTTP status that goes with the error.
func (e *Error) status() int {
	switch e.Code {
	case CodeBadRequest:
		return http.StatusBadRequest
	case CodeForbidden:
		return http.StatusForbidden
	case CodeNotFound:
		return http.StatusNotFound
	case CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeInvalidPolicy, CodeMissingFiles:
		return http.StatusUnprocessableEntity
	case CodeLocksOut:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

// asError finds the Error in err; what is none is a fault of the daemon.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}
