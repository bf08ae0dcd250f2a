package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
)

// An Application comes as JSON, or as a form (RFC 7578) whose parts are the
// Application without the rule file's text, and the text as it is: to quote
// and unquote ten megabytes takes longer than to put them in force.
const (
	partApplication = "application"
	partSource      = "source"
)

// encodeForm writes an application as a form.
func encodeForm(a Application) (body io.Reader, contentType string, err error) {
	source := a.Policy.Source
	a.Policy.Source = ""
	b, err := json.Marshal(a)
	if err != nil {
		return nil, "", err
	}
	var head, tail bytes.Buffer
	w := multipart.NewWriter(&head)
	if err := w.WriteField(partApplication, string(b)); err != nil {
		return nil, "", err
	}
	if _, err := w.CreateFormFile(partSource, "policy.yaml"); err != nil {
		return nil, "", err
	}
	fmt.Fprintf(&tail, "\r\n--%s--\r\n", w.Boundary())
	return io.MultiReader(&head, strings.NewReader(source), &tail), w.FormDataContentType(), nil
}

// decodeApplication reads an application in either way.
func decodeApplication(r *http.Request) (a Application, err error) {
	kind, params, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != "multipart/form-data" {
		return a, decode(r.Body, &a)
	}
	form := multipart.NewReader(r.Body, params["boundary"])
	var seen [2]bool
	for {
		part, err := form.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return a, unreadable(err)
		}
		name := part.FormName()
		switch {
		case name == partApplication && !seen[0]:
			seen[0] = true
			source := a.Policy.Source
			if err := decode(part, &a); err != nil {
				return a, err
			}
			if a.Policy.Source == "" {
				a.Policy.Source = source
			}
		case name == partSource && !seen[1]:
			seen[1] = true
			var b strings.Builder
			b.Grow(int(min(max(r.ContentLength, 0), MaxRequest)))
			if _, err := io.Copy(&b, part); err != nil {
				return a, unreadable(err)
			}
			a.Policy.Source = b.String()
		default:
			return a, unreadable(fmt.Errorf("the form has a part %q that is not one of %s and %s, or comes twice", name, partApplication, partSource))
		}
	}
	if seen != [2]bool{true, true} {
		return a, unreadable(fmt.Errorf("the form lacks one of its parts %s and %s", partApplication, partSource))
	}
	return a, nil
}
