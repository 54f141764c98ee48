package hw

import (
	"regexp"
	"strings"
)

// Where an Instance was learnt.
const (
	sourceIMDS          = "imds"
	sourceConfiguration = "configuration"
)

// outpostsFamilies says on which Outposts hardware an instance family is
// offered. Source: the AWS Outposts racks and servers feature pages.
var outpostsFamilies = map[string]string{
	"c5": "first generation rack", "c5d": "first generation rack",
	"m5": "first generation rack", "m5d": "first generation rack",
	"r5": "first generation rack", "r5d": "first generation rack",
	"g4dn": "first generation rack", "i3en": "first generation rack",
	"c7i": "second generation rack", "m7i": "second generation rack", "r7i": "second generation rack",
	"c6gd": "server", "c6id": "server",
}

// instanceType is the form of every EC2 instance type: "m5.4xlarge",
// "u-6tb1.56xlarge", "m7i.metal-24xl".
var instanceType = regexp.MustCompile(`^[a-z0-9-]{1,32}\.[a-z0-9-]{1,32}$`)

func validInstanceType(t string) bool { return instanceType.MatchString(t) }

// familyOf returns the family of a type and what it runs on at an Outpost.
func familyOf(instanceType string) (family, outposts string) {
	family, _, _ = strings.Cut(instanceType, ".")
	if on, ok := outpostsFamilies[family]; ok {
		return family, on
	}
	return family, "family " + family + " is not known to run on Outposts"
}

// configuredInstance is the instance the operator says this is.
func configuredInstance(t string) Instance {
	if !validInstanceType(t) {
		return Instance{Reason: "the configured instance type is not one; write it like m5.4xlarge"}
	}
	i := Instance{Type: t, Source: sourceConfiguration,
		Reason: "the type is set by configuration and the instance metadata service was not asked"}
	i.Family, i.Outposts = familyOf(t)
	return i
}

// instanceBeforeAsking is what is known without the network.
func instanceBeforeAsking(opts Options) Instance {
	switch {
	case opts.InstanceType != "":
		return configuredInstance(opts.InstanceType)
	case opts.NoIMDS:
		return Instance{Reason: "the instance metadata service was not asked, as configured"}
	}
	return Instance{Reason: "the instance metadata service has not been asked"}
}
