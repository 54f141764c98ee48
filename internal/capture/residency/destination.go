package residency

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Destination is a place where objects may go, or are meant to go. In a policy, what is
// empty may be anything; either Bucket or Directory is not.
type Destination struct {
	// Bucket is a bucket's name, or the ARN of an access point.
	Bucket string `json:"bucket,omitempty"`
	// Account owns the bucket: 12 digits. S3 is told to refuse another owner's.
	Account string `json:"account,omitempty"`
	Region  string `json:"region,omitempty"`
	// Outpost is the ARN of an Outpost whose access points are meant.
	Outpost string `json:"outpost,omitempty"`
	// Directory is for the destination on disk: it and what is below it.
	Directory string `json:"directory,omitempty"`
}

var (
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
	regionName = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}$`)
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	// accessPoint is arn:aws:s3-outposts:REGION:ACCOUNT:outpost/ID/accesspoint/NAME.
	accessPoint = regexp.MustCompile(`^arn:(aws[a-z-]*):s3-outposts:([a-z0-9-]+):([0-9]{12}):outpost/(op-[a-z0-9]+)/accesspoint/([a-z0-9-]+)$`)
	outpostARN  = regexp.MustCompile(`^arn:aws[a-z-]*:outposts:[a-z0-9-]+:[0-9]{12}:outpost/(op-[a-z0-9]+)$`)
)

// CheckBucket fails for what is neither a bucket's name nor the ARN of an access point on
// an Outpost.
func CheckBucket(name string) error {
	if !bucketName.MatchString(name) && !accessPoint.MatchString(name) {
		return fmt.Errorf("%.100q is neither a bucket's name nor the ARN of an access point on an Outpost", name)
	}
	return nil
}

func (d Destination) check() error {
	switch {
	case (d.Bucket == "") == (d.Directory == ""):
		return errors.New("give either bucket or directory")
	case d.Directory != "":
		if d.Account+d.Region+d.Outpost != "" {
			return errors.New("account, region and outpost are of buckets, and this is a directory")
		}
		if !filepath.IsAbs(d.Directory) || filepath.Clean(d.Directory) != d.Directory {
			return fmt.Errorf("directory: %q is no absolute path in its shortest form", d.Directory)
		}
		return nil
	}
	if err := CheckBucket(d.Bucket); err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	if d.Account != "" && !accountID.MatchString(d.Account) {
		return fmt.Errorf("account: %q is no number of 12 digits", d.Account)
	}
	if d.Region != "" && !regionName.MatchString(d.Region) {
		return fmt.Errorf("region: %q is no region", d.Region)
	}
	if d.Outpost != "" && !outpostARN.MatchString(d.Outpost) {
		return fmt.Errorf("outpost: %q is no ARN of an Outpost, such as arn:aws:outposts:eu-central-1:123456789012:outpost/op-0123456789abcdef0", d.Outpost)
	}
	return nil
}

// MayGo fails with ErrWithheld where d is not among the policy's destinations. What an
// ARN says of account, region and Outpost counts as d's.
func (p *Policy) MayGo(d Destination) error {
	if m := accessPoint.FindStringSubmatch(d.Bucket); m != nil {
		if d.Region != "" && d.Region != m[2] || d.Account != "" && d.Account != m[3] {
			return fmt.Errorf("%w: the access point %s is of region %s and account %s, and the destination says otherwise", ErrWithheld, d.Bucket, m[2], m[3])
		}
		d.Region, d.Account, d.Outpost = m[2], m[3], m[4]
	}
	for _, allowed := range p.options.Destinations {
		if allowed.covers(d) {
			return nil
		}
	}
	place := d.Directory
	if d.Bucket != "" {
		place = fmt.Sprintf("%s (region %s, account %s)", d.Bucket, orUnknown(d.Region), orUnknown(d.Account))
	}
	return fmt.Errorf("%w: %s is not among the destinations that it allows", ErrWithheld, place)
}

func orUnknown(s string) string {
	if s == "" {
		return "not given"
	}
	return s
}

// covers tells whether to, whose Outpost is an Outpost's id, is within d.
func (d Destination) covers(to Destination) bool {
	if d.Directory != "" {
		return to.Directory == d.Directory || strings.HasPrefix(to.Directory, strings.TrimSuffix(d.Directory, "/")+"/")
	}
	if d.Bucket != to.Bucket || d.Account != "" && d.Account != to.Account || d.Region != "" && d.Region != to.Region {
		return false
	}
	if d.Outpost == "" {
		return true
	}
	m := outpostARN.FindStringSubmatch(d.Outpost)
	return m != nil && m[1] == to.Outpost
}
