package cloud

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/pflag"
	"golang.org/x/time/rate"
)

// Options say how AWS is reached. The zero value is what the AWS command line would
// do: the environment, the shared configuration files, the role of the instance.
// Options are copied freely; nothing in them is written to.
type Options struct {
	// Region is that of the bucket and of the services; empty for $AWS_REGION and the
	// profile's.
	Region string `yaml:"region"`
	// Endpoint is the URL of the S3 store, for one that is not AWS's or is reached
	// another way; empty for AWS's own. Other services have $AWS_ENDPOINT_URL_NAME.
	Endpoint string `yaml:"endpoint"`
	// PathStyle puts the bucket into the path and not into the host name. An endpoint
	// that is an address, or localhost, is asked so anyhow.
	PathStyle bool `yaml:"path_style"`
	// Profile is the section of the shared configuration files to use.
	Profile string `yaml:"profile"`
	// CABundle is a PEM file of the authorities that may have signed the endpoints'
	// certificates; empty for $AWS_CA_BUNDLE and the system's.
	CABundle string `yaml:"ca_bundle"`
	// Bandwidth is what all transfers together may use, in both directions; 0 for no
	// limit.
	Bandwidth Rate `yaml:"bandwidth"`
	// RoleAlias gets credentials with a device's certificate; its zero value leaves it
	// to the SDK's chain.
	RoleAlias RoleAlias `yaml:"role_alias"`

	// Credentials are used instead of any others; nil for the chain. For programs: a
	// configuration holds no secrets.
	Credentials aws.CredentialsProvider `yaml:"-"`
	// Limiter is a limit to share with other Options; nil for one that Config makes of
	// Bandwidth. Limit makes one.
	Limiter *rate.Limiter `yaml:"-"`
}

// RoleAlias is AWS IoT's credential endpoint, where a device trades its certificate
// for the credentials of a role.
type RoleAlias struct {
	// URL is the whole address: https://ID.credentials.iot.REGION.amazonaws.com/role-aliases/ALIAS/credentials.
	URL string `yaml:"url"`
	// Thing is the device's name there.
	Thing string `yaml:"thing"`
	// Certificate and Key are the device's own, PEM files. They are read again
	// whenever credentials are fetched.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
	// CA is a PEM file of who may have signed the endpoint's certificate; empty for
	// the system's authorities.
	CA string `yaml:"ca"`
}

// AddFlags adds --region, --endpoint-url, --path-style, --profile, --ca-bundle and
// --bandwidth, which the AWS command line calls alike where it has them. They set o.
func (o *Options) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.Region, "region", o.Region, "the AWS `REGION`; else $AWS_REGION or the profile's")
	flags.StringVar(&o.Endpoint, "endpoint-url", o.Endpoint, "the `URL` of an S3 store other than AWS's own")
	flags.BoolVar(&o.PathStyle, "path-style", o.PathStyle, "put the bucket into the path and not into the host name")
	flags.StringVar(&o.Profile, "profile", o.Profile, "the `PROFILE` of the shared AWS configuration; else $AWS_PROFILE")
	flags.StringVar(&o.CABundle, "ca-bundle", o.CABundle, "a PEM `FILE` of the authorities to trust; else $AWS_CA_BUNDLE or the system's")
	flags.Var(&o.Bandwidth, "bandwidth", "the most to use of the line, such as 100Mbit/s or 20MiB/s")
}

// Over puts o, such as what flags said, over base, such as what a file says: what o
// leaves out is base's.
func (o Options) Over(base Options) Options {
	for _, f := range []struct{ to, from *string }{
		{&o.Region, &base.Region}, {&o.Endpoint, &base.Endpoint}, {&o.Profile, &base.Profile}, {&o.CABundle, &base.CABundle},
	} {
		if *f.to == "" {
			*f.to = *f.from
		}
	}
	o.PathStyle = o.PathStyle || base.PathStyle
	if o.Bandwidth == 0 {
		o.Bandwidth = base.Bandwidth
	}
	if o.RoleAlias == (RoleAlias{}) && o.Profile == base.Profile { // a profile that was asked for brings its own
		o.RoleAlias = base.RoleAlias
	}
	if o.Credentials == nil {
		o.Credentials = base.Credentials
	}
	if o.Limiter == nil {
		o.Limiter = base.Limiter
	}
	return o
}

var (
	regionName  = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	thingName   = regexp.MustCompile(`^[a-zA-Z0-9:_-]+$`)
	profileName = regexp.MustCompile(`^[^\x00-\x1f\]]+$`)
)

// Check reports each value that cannot be right: the key, such as "role_alias.url",
// and the rest of a sentence about it. It looks at no file and asks nobody.
func (o Options) Check(report func(key, sentence string)) {
	if o.Region != "" && (len(o.Region) > 40 || !regionName.MatchString(o.Region)) {
		report("region", fmt.Sprintf("%q is no region, such as us-west-2", shortened(o.Region)))
	}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
			report("endpoint", "must begin with https:// or http:// and name a host, such as https://s3.example.com") // not what it says: there may be a password in it
		case u.User != nil:
			report("endpoint", "has a user or a password in it: credentials come from the environment, the shared AWS files or role_alias")
		case u.RawQuery != "" || u.Fragment != "":
			report("endpoint", fmt.Sprintf("%q has more behind its path than an endpoint has", shortened(o.Endpoint)))
		}
	}
	if o.Profile != "" && !profileName.MatchString(o.Profile) {
		report("profile", fmt.Sprintf("%q is no profile's name", shortened(o.Profile)))
	}
	if o.Bandwidth < 0 || o.Bandwidth > 0 && o.Bandwidth < minRate {
		report("bandwidth", fmt.Sprintf("is %v, the least is %v; leave it out for no limit", o.Bandwidth, minRate))
	}
	for _, f := range []struct{ key, file string }{
		{"ca_bundle", o.CABundle}, {"role_alias.certificate", o.RoleAlias.Certificate}, {"role_alias.key", o.RoleAlias.Key}, {"role_alias.ca", o.RoleAlias.CA},
	} {
		if strings.ContainsRune(f.file, 0) {
			report(f.key, "contains a zero byte")
		}
	}
	o.RoleAlias.check(report)
}

// Files are the keys of the files that o names, and the files, in the order of the
// configuration. A daemon wants them absolute.
func (o Options) Files() [][2]string {
	return [][2]string{
		{"ca_bundle", o.CABundle}, {"role_alias.certificate", o.RoleAlias.Certificate}, {"role_alias.key", o.RoleAlias.Key}, {"role_alias.ca", o.RoleAlias.CA},
	}
}

func (r RoleAlias) check(report func(key, sentence string)) {
	if r == (RoleAlias{}) {
		return
	}
	u, err := url.Parse(r.URL)
	switch {
	case r.URL == "":
		report("role_alias.url", "is missing: nothing else of role_alias has a use without it")
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || !strings.HasSuffix(u.Path, "/credentials"):
		report("role_alias.url", fmt.Sprintf("%q must be of the form https://ID.credentials.iot.REGION.amazonaws.com/role-aliases/ALIAS/credentials", shortened(r.URL)))
	}
	if r.Thing != "" && (len(r.Thing) > 128 || !thingName.MatchString(r.Thing)) {
		report("role_alias.thing", fmt.Sprintf("%q is no thing's name", shortened(r.Thing)))
	}
	if r.Certificate == "" || r.Key == "" {
		report("role_alias.key", "and role_alias.certificate are both needed: the endpoint knows a device by them")
	}
}

// pathStyle tells whether the bucket goes into the path.
func (o Options) pathStyle() bool {
	u, err := url.Parse(o.Endpoint)
	if o.PathStyle || err != nil || o.Endpoint == "" {
		return o.PathStyle
	}
	_, notAddress := netip.ParseAddr(u.Hostname())
	return notAddress == nil || u.Hostname() == "localhost"
}

// shortened keeps a mistake from filling the screen.
func shortened(text string) string {
	const longest = 80
	if len(text) > longest {
		return strings.ToValidUTF8(text[:longest], "") + "..."
	}
	return text
}

// absolute resolves a path that a user wrote against the working directory.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
