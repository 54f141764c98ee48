// Package cloud is how Picket reaches AWS, and anything that speaks like it: one set
// of options for the daemon's configuration and for the command line, the SDK's own
// chain of credentials, a limit on bandwidth that all transfers share, retries that
// outlive an outage, and errors that are one sentence.
//
//	cfg, err := options.Config(ctx) // once per process
//	client := options.Client(cfg)   // S3; other services take cfg
//	err = cloud.Retry(ctx, policy, func(ctx context.Context) error { ... })
//
// Nothing here is asked unless somebody transfers something: no prediction needs it.
package cloud
