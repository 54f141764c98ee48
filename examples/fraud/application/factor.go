package application

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/store"
)

const (
	// period is how long a code is shown, in seconds: what authenticators do.
	period = 30
	// skew is how many periods a customer's clock may be wrong.
	skew = 1
)

var errNoChallenge = errors.New("this transaction does not ask for a code")

// secretOf is the customer's secret, in base32 as authenticators take it. It is made of ours, so there is no table of secrets to lose.
func (s *Server) secretOf(customer uint32) string {
	mac := hmac.New(sha256.New, s.o.Secret)
	mac.Write(binary.BigEndian.AppendUint32([]byte("totp"), customer))
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(mac.Sum(nil)[:20])
}

// codeAt is the code of a time step (RFC 6238: HOTP of the number of the step).
func codeAt(secret string, step int64) (string, error) {
	return hotp.GenerateCodeCustom(secret, uint64(step), hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
}

// stepOf finds the time step of a code among those that are valid now.
func stepOf(secret, code string, now time.Time) (int64, bool, error) {
	found, step := 0, int64(0)
	for one := now.Unix()/period - skew; one <= now.Unix()/period+skew; one++ {
		right, err := codeAt(secret, one)
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(right), []byte(code)) == 1 {
			found, step = 1, one
		}
	}
	return step, found == 1, nil
}

// answer judges the code for a transaction and gives its decision as it stands then.
func (s *Server) answer(ctx context.Context, id, code string) (*store.Record, error) {
	now := time.Now()
	r, err := s.o.Store.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Decision == nil || r.Decision.Verdict != api.Challenge {
		return nil, errNoChallenge
	}
	if r.Decision.Status != api.Waiting { // such as a repeated answer whose first reply was lost
		return r, nil
	}
	taken, err := s.o.Store.Attempt(ctx, id, now)
	if err != nil {
		return nil, err
	}
	if taken {
		step, right, err := stepOf(s.secretOf(r.Transaction.Customer), code, now)
		if err != nil {
			return nil, fmt.Errorf("making the code of customer %d: %w", r.Transaction.Customer, err)
		}
		why := "wrong"
		if right {
			why = "used"
			if right, err = s.o.Store.Complete(ctx, id, r.Transaction.Customer, step); err != nil {
				return nil, err
			}
		}
		if !right {
			if err := s.o.Store.Refuse(ctx, id, why); err != nil {
				return nil, err
			}
		}
	} else if _, err := s.o.Store.Expire(ctx, now); err != nil {
		return nil, err
	}
	if r, err = s.o.Store.Find(ctx, id); err != nil {
		return nil, err
	}
	s.hub.outcome(r.Entry())
	return r, nil
}

// oneTime is what the customer's authenticator shows.
func (s *Server) oneTime(customer uint32, now time.Time) (api.OneTimeCode, error) {
	secret, step := s.secretOf(customer), now.Unix()/period
	code, err := codeAt(secret, step)
	if err != nil {
		return api.OneTimeCode{}, fmt.Errorf("making the code of customer %d: %w", customer, err)
	}
	uri := url.URL{Scheme: "otpauth", Host: "totp", Path: fmt.Sprintf("/Picket:customer %d", customer), RawQuery: url.Values{"secret": {secret}, "issuer": {"Picket"}}.Encode()}
	return api.OneTimeCode{Code: code, Expires: time.Unix((step+1)*period, 0).UTC(), URI: uri.String()}, nil
}
