package main

// decision is what is done with a transaction.
type decision int

const (
	approve decision = iota
	ask
	deny
)

func (d decision) String() string {
	return [...]string{approve: "Approve", ask: "Ask for 2nd factor", deny: "Deny"}[d]
}
