// Package odata parses the part of OData 4 that balena's clients speak (keys, $filter, $select, $expand, $orderby,
// $top, $skip, $count, parameter aliases, actions) into a tree. It knows no resource, no access rule and no SQL:
// whether a name means something is for whoever walks the tree.
package odata

import "time"

// Query is one request: which resource, which rows of it, and how they are to look.
type Query struct {
	Resource string
	Key      []KeyPart // nil: the whole collection
	Count    bool      // the path ends in /$count: how many, not which
	Action   string    // the path ends in /NAME: what is to be done with the row; "" for the row itself
	Options
}

// KeyPart is one name=value of a key. The name of a bare key, as in device(5), is "".
type KeyPart struct {
	Name  string
	Value Literal
}

// Options are the options of a query or of one expansion in it. The zero value asks for everything.
type Options struct {
	Select    []string // nil: every field
	Expand    []Expand
	Filter    Expr // nil: every row
	OrderBy   []Order
	Top, Skip *int // nil: not said
}

// Expand is one navigation to be followed.
type Expand struct {
	Name  string
	Count bool // name/$count: how many, not which
	Options
}

// Order is one key of a sort.
type Order struct {
	By   Expr // Path or Count
	Desc bool
}

// Expr is a part of a filter: And, Or, Not, Compare, In, Arith, Lambda, Call, Count, Path or Literal.
type Expr interface{ expr() }

// And is true if all its parts are; it has at least two.
type And []Expr

// Or is true if one of its parts is; it has at least two.
type Or []Expr

// Not is true if X is false.
type Not struct{ X Expr }

// Op is a comparison, eq ne gt ge lt le, or a calculation, add sub mul div mod.
type Op string

// Compare is true if Left and Right are in the relation Op.
type Compare struct {
	Op          Op
	Left, Right Expr
}

// In is true if X is one of the values; there is at least one.
type In struct {
	X      Expr
	Values []Literal
}

// Arith is a calculation: add sub mul div mod.
type Arith struct {
	Op          Op
	Left, Right Expr
}

// Lambda is true if Body is for any, or for all, of the rows a navigation leads to. Var is the name of the row in
// Body. A nil Body, which only any can have, is true of every row.
type Lambda struct {
	Nav  Path
	All  bool
	Var  string
	Body Expr
}

// Call is one of functions, with as many arguments as it takes.
type Call struct {
	Func string
	Args []Expr
}

// Count is the number of rows a navigation leads to, of those that pass Filter; nil passes all.
type Count struct {
	Nav    Path
	Filter Expr
}

// Path is a field, by way of the navigations before it. It begins at the row of the Lambda that names Var, or at the
// row asked for if Var is "".
type Path struct {
	Var   string
	Names []string // at least one
}

// Literal is a value: nil, bool, int64, float64, string, time.Time (UTC) or time.Duration.
type Literal struct{ Value any }

func (And) expr()     {}
func (Or) expr()      {}
func (Not) expr()     {}
func (Compare) expr() {}
func (In) expr()      {}
func (Arith) expr()   {}
func (Lambda) expr()  {}
func (Call) expr()    {}
func (Count) expr()   {}
func (Path) expr()    {}
func (Literal) expr() {}

// functions are the ones there are, with how many arguments each takes at least and at most.
var functions = map[string][2]int{
	"startswith": {2, 2}, "endswith": {2, 2}, "contains": {2, 2}, "substringof": {2, 2}, // substringof(part, whole)
	"tolower": {1, 1}, "toupper": {1, 1}, "trim": {1, 1}, "concat": {2, 2}, "replace": {3, 3},
	"substring": {2, 3}, "indexof": {2, 2}, "length": {1, 1}, // characters, counted from 0
	"year": {1, 1}, "month": {1, 1}, "day": {1, 1}, "hour": {1, 1}, "minute": {1, 1}, "second": {1, 1},
	"date": {1, 1}, "now": {0, 0},
	"round": {1, 1}, "floor": {1, 1}, "ceiling": {1, 1},
}

// Bounds of what is parsed. They are far beyond what a client asks and keep a hostile query small for everyone after.
const (
	maxQuery  = 128 << 10 // bytes of a path or a query string
	maxDepth  = 24        // parentheses, lambdas and expansions inside each other
	maxNodes  = 500       // fields, values, operators and expansions of one query
	maxValues = 2000      // values behind all "in" of one query
	maxName   = 128       // bytes of a name
	maxAlias  = 256 << 10 // bytes that parameter aliases stand for, wherever they are used
)

// dateForms are how a time is written; without a zone it is UTC.
var dateForms = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02"}
