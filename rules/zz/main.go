package main

import (
	"fmt"
	"io"
	"os"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

func dump(n ast.Node, ind string) {
	if n == nil {
		fmt.Println(ind, "NIL")
		return
	}
	tk := n.GetToken()
	fmt.Printf("%s%T %s tk=%q %v:%v\n", ind, n, n.Type(), tk.Value, tk.Position.Line, tk.Position.Column)
	switch x := n.(type) {
	case *ast.MappingNode:
		for _, v := range x.Values {
			dump(v, ind+"  ")
		}
	case *ast.MappingValueNode:
		dump(x.Key, ind+" K ")
		dump(x.Value, ind+" V ")
	case *ast.SequenceNode:
		for _, v := range x.Values {
			dump(v, ind+"  ")
		}
	case *ast.MappingKeyNode:
		dump(x.Value, ind+"  ")
	case *ast.LiteralNode:
		fmt.Printf("%s lit %q\n", ind, x.Value.Value)
	}
}
func main() {
	src, _ := io.ReadAll(os.Stdin)
	tks := lexer.Tokenize(string(src))
	if len(os.Args) > 1 {
		for _, t := range tks {
			fmt.Printf("%v %q %v:%v %s\n", t.Type, t.Value, t.Position.Line, t.Position.Column, t.Error)
		}
	}
	f, err := parser.Parse(tks, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		fmt.Printf("ERR %T %v\n", err, err)
		return
	}
	for _, d := range f.Docs {
		fmt.Println("DOC")
		if d.Body == nil { fmt.Println("nil body"); continue }
		dump(d.Body, " ")
	}
}
