// Package api holds the messages that clients, the front-end and the application server of the fraud application exchange.
// API.md, one folder up, says which of them goes where.
package api

import "time"

// The paths of the application. A segment in braces is a value, in the form of http.ServeMux.
const (
	PathTransactions = "/api/transactions"                  // POST: Transaction to Decision
	PathTransaction  = "/api/transactions/{id}"             // GET: Page
	PathTruth        = "/api/transactions/{id}/truth"       // POST: Truth to Page
	PathChallenge    = "/api/challenges/{id}"               // POST: Answer to Decision
	PathDecisions    = "/api/decisions"                     // GET: Decisions
	PathStream       = "/api/decisions/stream"              // GET: server-sent events
	PathStatistics   = "/api/statistics"                    // GET: Statistics
	PathModel        = "/api/model"                         // GET: ModelState; POST: Swap to ModelState
	PathWAN          = "/api/wan"                           // GET: WAN; POST: WAN to WAN
	PathCapture      = "/api/capture"                       // GET: Capture
	PathLogin        = "/api/login"                         // POST: Login to Session
	PathLogout       = "/api/logout"                        // POST
	PathSession      = "/api/session"                       // GET: Session
	PathOrigin       = "/api/origin"                        // GET: Origin
	PathOneTimeCode  = "/api/customers/{customer}/one-time" // GET: OneTimeCode, only with -demo
	PathSample       = "/api/sample"                        // GET: Sample, only with -demo
	PathHealth       = "/healthz"                           // GET: 200 when the application can take transactions
)

// HeaderCSRF is the header that repeats Session.CSRF in every POST of an analyst's page.
const HeaderCSRF = "X-CSRF-Token"

// HeaderLatency is on every answer to a transaction: how long the application had it, in microseconds.
const HeaderLatency = "X-Decision-Microseconds"

// Channel is how a card was used.
type Channel string

// The channels.
const (
	Chip        Channel = "chip"
	Contactless Channel = "contactless"
	Online      Channel = "online"
)

// Transaction is what a terminal sends when a card is used.
type Transaction struct {
	// ID is the client's own: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'. A request with an ID that was seen before gets the
	// decision of the first, and is refused when it is about another transaction.
	ID string `json:"id"`
	// Time is when the card was used, to the millisecond. At most a day ago, at most a minute ahead.
	Time     time.Time `json:"time"`
	Customer uint32    `json:"customer"`
	Terminal uint32    `json:"terminal"`
	Merchant uint32    `json:"merchant"`
	// Device is what the customer paid with: a card, a telephone, a browser.
	Device uint32 `json:"device"`
	// Amount is in cents, 1 to 10,000,000.
	Amount  int64   `json:"amount"`
	Channel Channel `json:"channel"`
	// Category is the kind of merchant: one of Categories.
	Category string `json:"category"`
	// Country is where the terminal is, or the browser: two capital letters.
	Country string `json:"country"`
	// Latitude and Longitude are where the terminal is, or the browser, in degrees.
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

// Verdict is what the score, or a rule, made of a transaction.
type Verdict string

// The verdicts.
const (
	Approve   Verdict = "approve"
	Challenge Verdict = "challenge" // ask for the 2nd factor
	Deny      Verdict = "deny"
)

// Status is where a transaction stands.
type Status string

// The states. Approved and Denied are final.
const (
	Approved Status = "approved"
	Waiting  Status = "waiting" // for the answer to a challenge
	Denied   Status = "denied"
)

// Source says who decided.
type Source string

// The sources.
const (
	ByModel Source = "model"
	ByRules Source = "rules" // the fail-safe: Decision.Cause says why
)

// Reason is one contribution to a score, or a rule that fired.
type Reason struct {
	// Feature is one of features.Names, or "rule" for a rule.
	Feature string `json:"feature"`
	// Text is for people: "4 transactions in the last hour".
	Text string `json:"text"`
	// Value is the feature's; null where it is missing.
	Value *float32 `json:"value"`
	// Contribution is what the feature adds to the score's log-odds. 0 for a rule.
	Contribution float32 `json:"contribution"`
}

// Decision is the answer to a transaction, and what is stored of it.
type Decision struct {
	Transaction string  `json:"transaction"`
	Verdict     Verdict `json:"verdict"`
	Status      Status  `json:"status"`
	// Score is the probability of fraud; null when rules decided without one.
	Score  *float32 `json:"score"`
	Source Source   `json:"source"`
	// Cause is why rules decided: "late", "down", "open" (the circuit breaker) or "busy" (the queue is full).
	Cause string `json:"cause,omitempty"`
	// Model is the version that scored: "1". Empty when rules decided.
	Model string `json:"model,omitempty"`
	// Inference is what Picket calls the score among what it captures. Empty when rules decided.
	Inference string `json:"inference,omitempty"`

	Reasons []Reason  `json:"reasons,omitempty"`
	Decided time.Time `json:"decided"`
	// ScoreMicroseconds is how long the score took, from handing the profile over to having it.
	ScoreMicroseconds int64 `json:"score_us"`
	// Microseconds is how long it took to decide, storing not included.
	Microseconds int64 `json:"decide_us"`
	// Factor is there when the verdict is Challenge.
	Factor *Factor `json:"factor,omitempty"`
	// Recovered is true when the decision was made after a restart, of a transaction that was stored before it.
	Recovered bool `json:"recovered,omitempty"`
}

// Factor is the state of a challenge for the 2nd factor.
type Factor struct {
	// Expires is when the transaction will be denied without a right code.
	Expires time.Time `json:"expires"`
	// Attempts is how many are left.
	Attempts int `json:"attempts"`
	// Refused says why the last code was refused: "wrong", "used" (a code counts once) or "expired". Empty otherwise.
	Refused string `json:"refused,omitempty"`
}

// Answer is the customer's answer to a challenge.
type Answer struct {
	// Code is six digits.
	Code string `json:"code"`
}

// Entry is a decision with the transaction that it is about: an element of the list and of the stream.
type Entry struct {
	Transaction Transaction `json:"transaction"`
	Decision    Decision    `json:"decision"`
	// Fraud is the ground truth, null until it is known.
	Fraud *bool `json:"fraud"`
}

// Decisions is the list of decisions, newest first.
type Decisions struct {
	Entries []Entry `json:"entries"`
	// Before is the value of the query parameter "before" that gives the next part; empty at the end.
	Before string `json:"before,omitempty"`
}

// Feature is one entry of a profile.
type Feature struct {
	Name string `json:"name"`
	// Text says what it is.
	Text string `json:"text"`
	// Value is null where it is missing.
	Value *float32 `json:"value"`
}

// Page is all there is about one transaction.
type Page struct {
	Entry
	Profile []Feature `json:"profile"`
	// Labelled is when the ground truth was recorded, and By by whom.
	Labelled *time.Time `json:"labelled,omitempty"`
	By       string     `json:"by,omitempty"`
}

// Truth is the ground truth of a transaction.
type Truth struct {
	Fraud bool `json:"fraud"`
}

// Quantiles are latencies in microseconds.
type Quantiles struct {
	P50  int64 `json:"p50"`
	P90  int64 `json:"p90"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// Statistics are of this application server, over the last ten seconds where nothing else is said.
type Statistics struct {
	Time time.Time `json:"time"`
	// PerSecond is the transactions answered a second.
	PerSecond float64 `json:"per_second"`
	// Latency is from the request's arrival to its answer, Scoring from the profile to the score, Storing of a commit.
	Latency Quantiles `json:"latency_us"`
	Scoring Quantiles `json:"scoring_us"`
	Storing Quantiles `json:"storing_us"`
	// Share is the part of Latency that scoring has: the sum of one by the sum of the other.
	Share float64 `json:"scoring_share"`
	// Histogram counts scores since the start: element i is those in [i/20, (i+1)/20).
	Histogram [20]uint64 `json:"histogram"`
	// The rest counts since the start.
	Transactions uint64             `json:"transactions"`
	Verdicts     map[Verdict]uint64 `json:"verdicts"`
	// ByRules counts decisions of the rule set by their cause.
	ByRules map[string]uint64 `json:"by_rules"`
	// Unexplained counts decisions of the model without the reasons that it should have given: they failed, or were late when the score was in time.
	Unexplained uint64 `json:"unexplained"`
	// Breaker is "closed", "open" or "half-open".
	Breaker string `json:"breaker"`
	// Queue is how many transactions wait to be stored, of at most QueueLimit.
	Queue      int `json:"queue"`
	QueueLimit int `json:"queue_limit"`
	// Database is "postgresql" or "sqlite".
	Database string `json:"database"`
	// Scorer is how scores are asked for: "lane", "ring", "agent" or "oip".
	Scorer string `json:"scorer"`
}

// Version is one version of the model.
type Version struct {
	Version string `json:"version"`
	// Trained is when; Precision, Auc and so on are in Figures.
	Trained   time.Time          `json:"trained"`
	Challenge float32            `json:"challenge_from"`
	Deny      float32            `json:"deny_from"`
	Figures   map[string]float64 `json:"figures"`
}

// ModelState is which version scores.
type ModelState struct {
	Current  string    `json:"current"`
	Since    time.Time `json:"since"`
	Versions []Version `json:"versions"`
	// Scored counts by version since the start.
	Scored map[string]uint64 `json:"scored"`
	// Explained is true when the model gives contributions, so that decisions have reasons.
	Explained bool `json:"explained"`
}

// Swap asks for another version.
type Swap struct {
	Version string `json:"version"`
}

// WAN is the switch between this site and the region.
type WAN struct {
	// Switchable is false where the application was started without the relay that can be cut.
	Switchable bool      `json:"switchable"`
	Up         bool      `json:"up"`
	Since      time.Time `json:"since"`
}

// Capture is the state of capture: what waits to be sent home.
type Capture struct {
	// On is false where the daemon captures nothing, and the rest is 0.
	On bool `json:"on"`
	// Accepted = Uploaded + Waiting + Dropped, in records.
	Accepted uint64 `json:"accepted"`
	Uploaded uint64 `json:"uploaded"`
	Waiting  uint64 `json:"waiting"`
	Dropped  uint64 `json:"dropped"`
	// Bytes is what the spool has on disk.
	Bytes uint64 `json:"bytes"`
	// Told is how many outcomes this application server has told Picket since it started.
	Told uint64 `json:"told"`
}

// Login is an analyst's.
type Login struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// Session is an analyst's, after a login.
type Session struct {
	User    string    `json:"user"`
	CSRF    string    `json:"csrf"`
	Expires time.Time `json:"expires"`
	// Demo is true where the application was started with -demo.
	Demo bool `json:"demo"`
}

// Origin says what is served, to pages before a login.
type Origin struct {
	Version string `json:"version"`
	Demo    bool   `json:"demo"`
}

// OneTimeCode is what the customer's authenticator shows now.
type OneTimeCode struct {
	Code    string    `json:"code"`
	Expires time.Time `json:"expires"`
	// URI is for the QR code of an authenticator: otpauth://...
	URI string `json:"uri"`
}

// Sample is a filled-in form for the terminal page: a customer of the simulation at a terminal that suits.
type Sample struct {
	// Story says what it is: "usual", "large", "abroad", "testing".
	Story       string      `json:"story"`
	Transaction Transaction `json:"transaction"`
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	// Sentence says what is wrong and what to do.
	Sentence string `json:"error"`
}

// Categories are the kinds of merchants.
var Categories = []string{"grocery", "fuel", "restaurant", "retail", "travel", "electronics", "online", "gambling", "jewelry", "cash"}
